"""Pages that people read: figures drawn from frames, one self-contained HTML file each."""

from core.numerics import configure

configure()
