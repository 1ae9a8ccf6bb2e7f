"""The composition root: the site, which combines the other packages."""
