"""The parts of the recipe `train_embedded_saes.py`: texts, activations, training, evaluation."""
