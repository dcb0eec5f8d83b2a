"""The report of the whole pipeline, in Brazilian Portuguese, from what its runs hold; not the steps."""
