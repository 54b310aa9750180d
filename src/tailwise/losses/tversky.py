"""Tversky loss.

    L = mean_j (1 - T_j)^e,   T_j = (TP_j + g) / (TP_j + a FP_j + b FN_j + g)
    TP_j = sum_i p_ij y_ij,  FP_j = sum_i p_ij (1 - y_ij),  FN_j = sum_i (1 - p_ij) y_ij,   p = softmax(z)

a weight of false positives (0.3), b of false negatives (0.7), g smooth (1), e focal exponent (1).
Salehi et al., Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep Networks, MLMI 2017; as
"TL" in Li et al., Dice Loss for Data-imbalanced NLP Tasks, ACL 2020; the exponent from Abraham & Khan, A Novel Focal
Tversky Loss Function, ISBI 2019, where it is 3/4. Survey section 3.3. With a = b = 1/2 it is the batch dice that
is not squared, of twice the smooth. Differs from the papers in leaving classes absent from the batch out of the mean;
``absent="penalise"`` keeps them in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tailwise.errors import SettingError
from tailwise.losses.batchwise import BatchLoss
from tailwise.losses.class_ratios import RatioSetting, class_ratios, mean_class_ratio
from tailwise.losses.dice import Absent, checked_choice, checked_smooth

if TYPE_CHECKING:
    from torch import Tensor

    from tailwise.losses.base import Reduction

__all__ = ["TverskyLoss", "tversky_values"]


def tversky_values(
    probabilities: Tensor,
    target: Tensor,
    false_positive_weight: float = 0.3,
    false_negative_weight: float = 0.7,
    *,
    smooth: float = 1.0,
    focal_exponent: float = 1.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """Per-class values (1 - T_j)^e.

    Args:
        probabilities: p, ``(M, C)``.
        target: class indices, ``(M,)``.
        false_positive_weight: a >= 0.
        false_negative_weight: b >= 0.
        smooth: g > 0.
        focal_exponent: e > 0.
        sample_weight: ``(M,)``, what each row counts in the sums, or None.

    Returns:
        ``(C,)``, same dtype as `probabilities`.
    """
    weight = probabilities.new_ones(target.shape) if sample_weight is None else sample_weight.to(probabilities.dtype)
    setting = _setting((false_positive_weight, false_negative_weight), smooth, focal_exponent, present_only=False)
    return class_ratios(probabilities, target, weight, setting)


def _setting(pair: tuple[float, float], smooth: float, focal_exponent: float, *, present_only: bool) -> RatioSetting:
    return RatioSetting(*pair, *pair, 0.0, smooth, squared=False, exponent=focal_exponent, present_only=present_only)


class TverskyLoss(BatchLoss):
    """A soft F-beta of the batch: false positives and false negatives have a weight each.

    A batch should have 64 rows or more; the loss of a large batch is not the sum of the losses of its parts.

    Args:
        false_positive_weight: a >= 0.
        false_negative_weight: b >= 0, not 0 together with a; b > a favours recall.
        smooth: g > 0.
        focal_exponent: e > 0; below 1 the classes that are nearly right keep more weight, above 1 less.
        absent: of classes without a row in the batch: ``"ignore"`` leaves them out of the mean, ``"penalise"`` keeps
            them in.
        reduction: see `BatchLoss`.
        ignore_index: see `Loss`.

    Raises:
        SettingError: a setting out of its range.
    """

    def __init__(
        self,
        false_positive_weight: float = 0.3,
        false_negative_weight: float = 0.7,
        *,
        smooth: float = 1.0,
        focal_exponent: float = 1.0,
        absent: Absent = "ignore",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
    ) -> None:
        super().__init__(reduction=reduction, ignore_index=ignore_index)
        pair = (false_positive_weight, false_negative_weight)
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in pair) or not any(pair):
            raise SettingError(
                "Expected `false_positive_weight` and `false_negative_weight` to be finite numbers of at least 0, not "
                f"both 0, but got {false_positive_weight!r} and {false_negative_weight!r}."
            )
        if not (math.isfinite(focal_exponent) and focal_exponent > 0.0):
            raise SettingError(
                f"Expected `focal_exponent` to be a finite number above 0, but got {focal_exponent!r}. Use 1 for none."
            )
        self.false_positive_weight, self.false_negative_weight = map(float, pair)
        self.smooth, self.focal_exponent = checked_smooth(smooth), float(focal_exponent)
        self.absent: Absent = checked_choice("absent", absent, Absent)

    def batch_value(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        features: Tensor | None,
        group: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Tensor:
        """The loss, a scalar; `sample_weight` multiplies the share of a row in every sum."""
        del features, group
        pair = self.false_positive_weight, self.false_negative_weight
        present_only = self.absent == "ignore"
        setting = _setting(pair, self.smooth, self.focal_exponent, present_only=present_only)
        return mean_class_ratio(logits, target, sample_weight, setting)
