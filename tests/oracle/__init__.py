"""An independent implementation of docs/method.md, to hold `dspa_nn` against. It imports none of
it.

`method` is the arithmetic (numpy, float64, dense loops), `model` runs Hugging Face models with
plain forward hooks. Clarity before speed; comments name the sections of docs/method.md.
"""
