"""The zoo of planted models, and what sparse autoencoders do on them."""
