"""From a prompt to exactly the token ids that the model sees."""
