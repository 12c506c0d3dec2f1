"""Files on disk: arrays with their description, written whole or not at all."""
