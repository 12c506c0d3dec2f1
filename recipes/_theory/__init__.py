"""Parts of `open_questions.py` and `condition.py`."""
