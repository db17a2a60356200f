"""A run as one HTML page that needs nothing else: no network, no server, no other file.

`model` decides what is in it, `timeline` draws, `markdown` renders answers, `page` puts it together
from `template.html`, `style.css` and `report.js`. Texts of tasks come from anyone: they are data,
and never markup. Its Content-Security-Policy allows the one script by its hash, and no request.
"""
