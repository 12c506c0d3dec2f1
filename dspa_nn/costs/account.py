"""The paper's account of FLOPs (arXiv 2603.21461), which multiplies parameters by tokens."""

# The paper's settings of RAHF-SCIT: tokens of a step-1 sequence, rows and tokens of a step-2
# batch, step-2 batches per triple, and the most batches that its text allows.
STEP_1_TOKENS = 768
STEP_2_ROWS, STEP_2_TOKENS = 64, 512
STEP_2_BATCHES = 0.02
STEP_2_MOST = 450


def account_dspa(
    parameters: float | int, prompt: float | int, chosen: float | int, rejected: float | int
) -> float:
    """FLOPs of one triple by the paper's account: 2 P (3 p + c + r).

    Example:
        >>> account_rahf(8e9) / account_dspa(8e9, 1000, 1000, 1000)
        4.472832

    Three passes (prompt, prompt and chosen, prompt and rejected), 2 FLOPs per weight and token.
    """
    return 2.0 * parameters * (3 * prompt + chosen + rejected)


def account_rahf(parameters: float | int) -> float:
    """FLOPs of RAHF-SCIT for one triple by the paper's account: 48 P L1 + 12 P (B L2) 0.02.

    Example:
        >>> account_rahf(8e9)
        357826560000000.0

    One reading of it: in step 1, four sequences of L1 = 768 tokens for two epochs at 6 P per token;
    in step 2, 0.02 batches of B L2 = 64 x 512 tokens at 6 P for the trained model and 2 P for
    each of three frozen passes. It does not depend on the lengths of the triples.
    """
    step_1 = 48 * parameters * STEP_1_TOKENS
    return step_1 + 12 * parameters * STEP_2_ROWS * STEP_2_TOKENS * STEP_2_BATCHES
