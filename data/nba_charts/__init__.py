"""Shot charts of the NBA's API converted to raw tables; not the download of them."""
