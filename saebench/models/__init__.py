"""Language models and the devices they run on."""
