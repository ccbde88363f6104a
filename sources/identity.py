"""When a ticker is taken for another company's: what cleaning marks and what the panel separates by."""

LONG_GAP = 63
"""Sessions from one price of a symbol to the next above which nothing of before is compared or used."""
SHORT_GAP = 21
"""Sessions without a price after which a broken price level is taken for another company's."""
ANOTHER_COMPANY = 2.0
"""`level_break` of a row that begins another company's history; 1.0 of any other broken level."""
