"""Warren from outside: what a client sees through two edges, checked against the words of the protocol."""
