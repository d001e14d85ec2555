"""What the card reaches: memory copied and bf16 products, of the data sheet; about 3 s."""

from tools.gpu.measure import card_of, device_name, measure_ceilings, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting


def run(setting: Setting) -> Outcome:
    """Measure both limits."""
    prepare(setting.device)
    reached, card = (
        measure_ceilings(setting.device, setting.is_tiny),
        card_of(device_name(setting.device)),
    )
    summary = f"{reached.name}: copy {reached.bandwidth / 1e12:.2f} TB/s, bf16 {reached.flops / 1e12:.0f} TFLOP/s"
    figures = {"reached": reached, "card": card}
    if card is not None:
        shares = {
            "bandwidth": reached.bandwidth / card.bandwidth,
            "flops": reached.flops / card.flops,
        }
        figures["shares"] = shares
        summary += f" ({shares['bandwidth']:.0%} and {shares['flops']:.0%} of the data sheet)"
    return Outcome(summary, None, rounded(figures))


PART = Part("ceilings of the card: copies and bf16 products", "speed", run, limit_s=30)
