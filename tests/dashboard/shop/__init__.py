"""An application whose workflow has a parameter of each kind."""
