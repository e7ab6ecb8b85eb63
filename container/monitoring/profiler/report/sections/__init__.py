"""The report's sections, a module each: generators of HTML that draw on the same material."""
