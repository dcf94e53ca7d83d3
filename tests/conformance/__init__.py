"""A package, so that a menu and a stage may have tests of one name."""
