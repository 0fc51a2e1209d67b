"""The studio in the browser, thin."""
