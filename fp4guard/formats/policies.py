"""The choices that the formats leave open, by name. Whoever quantises states them; nothing is guessed."""

from __future__ import annotations

from enum import Enum


class Rounding(Enum):
    """Which neighbour a value between two representable ones becomes."""

    TIES_TO_EVEN = "ties to even"
    """The nearest; of two equally near ones, the one with an even code. The standard's rule."""
    TIES_AWAY = "ties away"
    """The nearest; of two equally near ones, the larger magnitude. What adding a guard bit gives, and
    microxcaling's default. On E2M1 it differs from TIES_TO_EVEN at 0.25, 1.25, 2.5 and 5 alone."""
    TOWARD_ZERO = "toward zero"
    """The smaller magnitude."""
    STOCHASTIC = "stochastic"
    """The larger magnitude with the probability that makes the mean exact: of 2^32 equally likely random words, those
    below 2^32 * (|v| - low) / (high - low) round up. The words are an argument, so that a run can be repeated."""


class Overflow(Enum):
    """What a value becomes that rounds beyond the largest finite one. OCP FP8 v1.0, section 5.2, names the two."""

    SATURATE = "saturate"
    """The largest finite value, Inf included. OCP MX v1.0, section 6.3, and the default of elements and scales."""
    NONSATURATING = "nonsaturating"
    """Inf, NaN where the format has no Inf; IEEE 754, section 7.4, and the default of 16 and 32 bits. Toward zero, what
    is finite stays so. A format that has neither refuses it."""


class ZeroSign(Enum):
    """The zero that a negative value, or -0, becomes."""

    KEEP = "keep"
    """-0, where the format has one. IEEE 754, section 6.3."""
    DROP = "drop"
    """+0."""


class NanElement(Enum):
    """The code of a NaN in E2M1, E2M3 or E3M2, which have none to give. Others have one, and take RAISE alone."""

    RAISE = "raise"
    """Refuse with ValueError, as gfloat does."""
    ZERO = "zero"
    """+0."""
    MAX = "max"
    """The largest value, positive, as CUDA's conversion instruction gives."""


class NibbleOrder(Enum):
    """Which half of a byte holds the element of the even index."""

    LOW_FIRST = "low first"
    """Bits 0 to 3. Everything current."""
    HIGH_FIRST = "high first"
    """Bits 4 to 7. torchao's earlier packing."""


class ScaleDecode(Enum):
    """What the two ends of E8M0 stand for."""

    STANDARD = "standard"
    """0 is 2^-127 and 255 is NaN."""
    SHIFT = "shift"
    """`byte << 23` (or `<< 7`) read as a float: 0 is 0.0 and 255 is Inf. What several kernels compute."""
    ONE_AT_ZERO = "one at zero"
    """0 is 1.0 and 255 is NaN: encoders that leave the elements of a block of scale byte 0 unscaled."""


class ScaleRule(Enum):
    """How a block's scale exponent follows from amax = f * 2^E, 1 <= f < 2: E - 2, and one more where noted.

    The 2 is the exponent of E2M1's largest value, 6 = 1.5 * 2^2.
    """

    FLOOR = "floor"
    """Never one more. OCP MX v1.0, section 6.3; values above 6 saturate."""
    CEIL = "ceil"
    """One more where f > 1."""
    RCEIL = "rceil"
    """One more where f > 1.5: the smallest power of two not below amax / 6; nothing saturates."""
    EVEN = "even"
    """One more where f >= 1.75, the point from which f * 2^2 rounds to 8 at E2M1's two significant bits."""
    EVEN_FP32 = "even, in fp32 bits"
    """EVEN computed as `(bits + 0x200000) & 0xFF800000` on fp32's bits, as Transformer Engine and AITER do.
    The sum is Inf from 1.75 * 2^127 on, and the byte is then 254 where EVEN gives 253."""


class ZeroBlock(Enum):
    """The scale byte of a block without a nonzero element."""

    SMALLEST = 0
    """2^-127."""
    ONE = 127
    """2^0."""


class NanBlock(Enum):
    """What a block that holds a NaN or an Inf becomes."""

    RAISE = "raise"
    """Refuse with ValueError."""
    POISON = "poison"
    """Scale byte 255, which makes all its elements NaN; their codes are 0."""
    IGNORE = "ignore"
    """The scale is that of the finite elements; an Inf saturates, a NaN is a matter of `NanElement`."""
