"""MLflow's pages in a real browser: what a reviewer reads and clicks."""

import contextlib
import os
import shutil
import tempfile
import time

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def chromium():
    """Paths of a Chromium and its driver; None where one of them is missing."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None), shutil.which("chromedriver")
    return found if all(found) else None


@contextlib.contextmanager
def browsing(address, width=1280, height=1400):
    """The pages of a server, in a headless browser with a profile of its own."""
    binary, driver = chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    with tempfile.TemporaryDirectory() as profile:
        for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en-GB"):
            options.add_argument(argument)
        options.add_argument(f"--window-size={width},{height}")
        options.add_argument(f"--user-data-dir={profile}")
        if os.geteuid() == 0:
            # Chromium's sandbox does not work for root.
            options.add_argument("--no-sandbox")
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield Pages(browser, address)
        finally:
            browser.quit()


class Pages:
    """What a reviewer does, in MLflow's words."""

    def __init__(self, browser, address):
        self.browser, self.address = browser, address

    def open(self, path):
        """Open a page by its path, without MLflow's assistant beside it."""
        self.browser.get(f"{self.address}/#/{path}")
        self._close_assistant()

    def open_version(self, model, version):
        self.open(f"models/{model}/versions/{version}")
        self.wait_for_text("Registered At")

    def follow(self, link):
        """Open a link of the page in its place."""
        self.browser.get(self.find(f"//a[normalize-space()={link!r}]").get_attribute("href"))

    def find(self, xpath):
        """The first visible element, once it is there."""

        def visible(browser):
            return next((e for e in browser.find_elements(By.XPATH, xpath) if e.is_displayed()), None)

        return self._wait(visible, f"no {xpath}")

    def wait_for_text(self, words, within="//body"):
        """The text of an element, once it holds the words."""

        def text(_):
            told = self.find(within).text
            return told if words in told else None

        return self._wait(text, f"no {words!r}")

    def wait_gone(self, xpath):
        """Wait until no such element is to be seen."""

        def gone(browser):
            return not any(element.is_displayed() for element in browser.find_elements(By.XPATH, xpath))

        self._wait(gone, f"still {xpath}")

    def file_text(self, words):
        """The text of the HTML file that is shown, once it holds the words."""
        self.browser.switch_to.frame(self.find("//iframe"))
        try:
            return self.wait_for_text(words)
        finally:
            self.browser.switch_to.default_content()

    def scroll_file(self, xpath):
        """Bring a place of the HTML file that is shown to the top, and see it stay: MLflow may load the file twice."""

        def at_top(browser):
            browser.switch_to.default_content()
            browser.switch_to.frame(self.find("//iframe"))
            top = "return Math.round(arguments[0].getBoundingClientRect().top)"
            place = self.find(xpath)
            if browser.execute_script(top, place) == 0:
                return True
            browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", place)
            time.sleep(1.0)
            return False

        try:
            self._wait(at_top, f"{xpath} does not stay at the top")
        finally:
            self.browser.switch_to.default_content()

    def set_alias(self, alias):
        """Ask for one more alias; the dialog stays open where it is refused."""
        self.find("//*[@title='Edit aliases']").click()
        self.find("//*[@role='dialog']//input[@role='combobox']").send_keys(alias, Keys.ENTER)
        self.find("//button[normalize-space()='Save aliases' and not(@disabled)]").click()

    def cancel(self):
        """Shut the dialog."""
        self.find("//*[@role='dialog']//button[normalize-space()='Cancel']").click()
        self.wait_gone("//*[@role='dialog']")

    def set_tag(self, name, value):
        """Give a tag another value."""
        row = f"//tr[@data-row-key={name!r}]"
        self.find(f"{row}//button[@data-testid='editable-table-button-edit']").click()
        box = self.find(f"{row}//input")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(value)
        self.find(f"{row}//button[normalize-space()='Save']").click()

    def _close_assistant(self):
        # It comes with the first page of a profile; later pages remember that it was closed.
        self.find("//a[normalize-space()='Settings']")
        for button in self.browser.find_elements(
            By.XPATH, "//*[@data-component-id='mlflow.assistant.chat_panel.close']"
        ):
            button.click()

    def _wait(self, condition, problem):
        waiting = WebDriverWait(self.browser, PATIENCE, 0.2, [StaleElementReferenceException])
        return waiting.until(condition, f"{problem} at {self.browser.current_url}")
