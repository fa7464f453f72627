"""Whether probabilities are right as often as they say: reliability and expected calibration error."""

import numpy as np

BINS = 15


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence and accuracy in bins with equal numbers of predictions (Nguyen and O'Connor, 2015).

    Args:
        confidence: probability of the most probable token, any shape.
        right: whether it is the text's, bool, the same shape.
    Returns:
        Mean confidence, accuracy and share of the predictions in each bin, shape (bins,); the expected
        calibration error is the weighted mean of their distance.
    """
    order = np.argsort(confidence, axis=None)
    groups = [group for group in np.array_split(order, bins) if len(group)]
    mean = np.array([confidence.ravel()[group].mean() for group in groups])
    share = np.array([right.ravel()[group].mean() for group in groups])
    return mean, share, np.array([len(group) / len(order) for group in groups])


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error with bins of equal numbers of predictions, a fraction; arguments as `reliability`."""
    mean, share, weight = reliability(confidence, right, bins)
    return float((weight * np.abs(mean - share)).sum())
