"""IOI: sentences about two people, one of them named twice."""
