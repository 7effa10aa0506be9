"""Language models whose features are known: trained from a spec, with a certificate and a task."""
