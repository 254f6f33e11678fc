"""The page and the HTTP interface of one model: `mmadfer serve`."""
