"""Numbers and time spans as text, with as few digits as they need."""


def format_number(value: float) -> str:
    """Return a number with four significant digits, in scientific form outside 1e-3 to 1e6."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def format_share(value: float) -> str:
    """Return a share as a percentage: one decimal, below 1 % two significant digits."""
    if 0 < abs(value) < 0.01:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def format_duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min {whole % 60} s"
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"
