"""What fills `results/smollm2-135m`: where IOI is in a real model, SAEs trained on it, their scores."""
