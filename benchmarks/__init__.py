"""Headline figures, beside their floors."""
