"""What the tests of several floors share: a server, a tap, a proxy, a clinic and the leak oracle."""
