r"""Decides whether two formulas are equal.

Decimals are exact fractions. A decimal also equals a number that rounds to it, with at least six digits:
`0.333333` equals 1/3, `0.33` does not. The tolerance is relative, so small numbers are not confused.
Formulas with letters are compared at points: two formulas are equal if they agree to forty digits at
several fixed rational points. At positive points they must agree, so `\sqrt{a/b}` equals
`\sqrt{a}/\sqrt{b}`; at other points they must agree if both are real, so `|x|` does not equal `x`.

Lists are unordered; tuples, matrices and ends of intervals are ordered. `x = 5` may stand for 5, and one
of two percent signs may be missing.
"""

import random
from collections.abc import Callable, Iterator
from itertools import repeat
from math import inf
from typing import Any

import sympy
from latex2sympy2_extended import is_expr_of_only_symbols
from latex2sympy2_extended.logic import And
from latex2sympy2_extended.sets import FiniteSet
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from unmask.rewards.math_reading import Formula

Same = Callable[[Any, Any], bool]

# Digits: fewest of a rounding, those of a float, and those to which equal numbers agree.
LEAST_DIGITS, FLOAT_DIGITS, EXACT_DIGITS = 6, 15, 40
TINY = sympy.Integer(10) ** -EXACT_DIGITS
# Scales of the points: some are large, so that |x - 5| does not equal 5 - x.
REACHES = (1, 1, 20)
CENT = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
FLIPPED = {sympy.StrictGreaterThan: sympy.StrictLessThan, sympy.GreaterThan: sympy.LessThan}


def is_same(gold: Formula, answer: Formula) -> bool:
    """Return whether an answer equals the gold formula."""
    fewest, most = sorted((gold.digits, answer.digits))
    if fewest < LEAST_DIGITS:
        # 0.3 is exact, but a float may print it as 0.30000000000000004.
        digits = FLOAT_DIGITS if FLOAT_DIGITS < most < inf else inf
    else:
        digits = fewest if fewest == most else min(fewest, FLOAT_DIGITS)
    try:
        return _is_same(gold.expression, answer.expression, digits)
    except Exception:  # SymPy raises any error on formulas without a meaning: they are not equal
        return False


def num_elements(formula: Formula) -> int:
    """Return the length of a list; 1 for any other formula."""
    is_list = isinstance(formula.expression, FiniteSet)
    return len(_elements(formula.expression)) if is_list else 1


def _is_same(gold: Any, answer: Any, digits: float) -> bool:
    def same(one: Any, other: Any) -> bool:
        return _is_same(one, other, digits)

    gold, answer = sides = _value(gold, answer, same), _value(answer, gold, same)
    if any(isinstance(side, sympy.MatrixBase | sympy.MatrixExpr) for side in sides):
        gold, answer = (sympy.Matrix(side.doit()) for side in sides)
        return gold.shape == answer.shape and all(map(same, gold, answer))
    if any(isinstance(side, Relational | And) for side in sides):
        return _is_same_condition(gold, answer, same)
    if all(isinstance(side, sympy.Interval) for side in sides):
        ends = [(side.left_open, side.right_open) for side in sides]
        return ends[0] == ends[1] and same(gold.start, answer.start) and same(gold.end, answer.end)
    if any(isinstance(side, FiniteSet | sympy.Tuple) for side in sides):
        return _has_same_elements(gold, answer, same)
    if any(isinstance(side, sympy.Set) for side in sides):
        gold, answer = _exact(gold), _exact(answer)
        return gold == answer or bool(gold.symmetric_difference(answer).is_empty)
    return _is_same_value(gold, answer, digits)


def _relations(condition: Any) -> list[Any]:
    """Return the relations of a chain in the order of its text; none for other conditions."""
    if isinstance(condition, And):
        return list(condition._unsorted_args)  # pyright: ignore[reportAttributeAccessIssue]
    return [condition] if isinstance(condition, Relational) else []


def _equated(equation: Any) -> list[Any]:
    """Return the sides of `a = b = c`; none if it is no chain of equations."""
    parts = _relations(equation)
    is_equation = bool(parts) and all(isinstance(part, sympy.Eq) for part in parts)
    return [parts[0].lhs, *(part.rhs for part in parts)] if is_equation else []


def _is_name(side: Any) -> bool:
    return is_expr_of_only_symbols(side) or isinstance(side, AppliedUndef | sympy.Derivative)


def _value(equation: Any, other: Any, same: Same) -> Any:
    """Return the value of `name = ... = value`, or its two ends if `other` is also an equation."""
    sides = _equated(equation)
    if not sides:
        return equation
    first, *between, last = sides
    if _equated(other):
        is_named = _is_name(first) and all(same(side, last) for side in between)
        return sympy.Eq(first, last, evaluate=False) if between and is_named else equation
    # 9 + 9 = 18 has the value 18; 17 = 18 and 2x = 18 have none.
    is_value = (_is_name(first) or same(first, last)) and all(
        side.free_symbols or same(side, last) for side in between
    )
    return last if is_value else equation


def _elements(listing: Any) -> list[Any]:
    if isinstance(listing, FiniteSet):
        # With duplicates: the factors 2, 2, 3 do not equal 2, 3.
        return list(listing._unsorted_args)  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(listing, sympy.Interval) and listing.is_open:
        return [listing.start, listing.end]  # the grammar parses the point (1, 2) as an interval
    return list(listing.args) if isinstance(listing, sympy.Tuple) else [listing]


def _has_same_elements(gold: Any, answer: Any, same: Same) -> bool:
    golds, answers = _elements(gold), _elements(answer)
    if len(golds) != len(answers):
        return False
    names = [{sides[0] for sides in map(_equated, side) if sides} for side in (golds, answers)]
    # The answer to x = 1, y = 2 may be 1, 2 but not 2, 1.
    is_named = bool(names[0]) != bool(names[1]) and len(names[0] | names[1]) > 1
    if is_named or any(isinstance(side, sympy.Tuple | sympy.Interval) for side in (gold, answer)):
        return all(map(same, golds, answers))
    for element in golds:
        found = next((place for place, other in enumerate(answers) if same(element, other)), None)
        if found is None:
            return False
        answers.pop(found)
    return True


def _is_same_condition(gold: Any, answer: Any, same: Same) -> bool:
    """Compare equations, inequalities and chains of them; one side may be the set that it describes."""
    golds, answers = _relations(gold), _relations(answer)
    if not golds or not answers:
        sides = ((golds, gold), (answers, answer))
        return same(*(sympy.And(*parts).as_set() if parts else side for parts, side in sides))
    return len(golds) == len(answers) and any(
        all(map(_is_same_relation, golds, order, repeat(same)))
        for order in (answers, answers[::-1])
    )


def _is_same_relation(gold: Any, answer: Any, same: Same) -> bool:
    """Compare two relations as differences with 0: one difference must be a multiple of the other."""
    kinds: list[Any] = [FLIPPED.get(type(side), type(side)) for side in (gold, answer)]
    if isinstance(gold.lhs, sympy.Tuple) or isinstance(gold.rhs, sympy.Set):
        return gold == answer
    if kinds[0] is not kinds[1]:
        return False
    # a > b is b < a.
    one, other = (
        _exact((side.rhs - side.lhs) if type(side) in FLIPPED else (side.lhs - side.rhs))
        for side in (gold, answer)
    )
    if not one.free_symbols or not other.free_symbols:
        return same(gold.lhs, answer.lhs) and same(gold.rhs, answer.rhs)
    points = _points(one, other, is_positive=True)
    pairs = [(_number(one, point), _number(other, point)) for point in points]
    ratios = [a / b for a, b in pairs if a is not None and b]
    is_multiple = len(ratios) == len(pairs) and all(_is_near(r, ratios[0]) for r in ratios)
    is_equation = kinds[0] in (sympy.Eq, sympy.Ne)
    return is_multiple and bool(ratios[0] != 0 if is_equation else ratios[0] > 0)


def _is_same_value(gold: Any, answer: Any, digits: float) -> bool:
    (gold, is_gold_percent), (answer, is_answer_percent) = map(_without_percent, (gold, answer))
    gold, answer = _exact(gold), _exact(answer)
    if is_gold_percent == is_answer_percent:
        return _is_same_function(gold, answer, digits)
    hundredth = (gold / 100, answer) if is_gold_percent else (gold, answer / 100)
    return any(_is_same_function(*pair, digits) for pair in ((gold, answer), hundredth))


def _without_percent(value: Any) -> tuple[Any, bool]:
    is_percent = value.is_Mul and CENT in value.args
    factors = [factor for factor in value.args if factor != CENT]
    return (sympy.Mul(*factors) if is_percent else value), is_percent


def _is_same_function(gold: Any, answer: Any, digits: float) -> bool:
    if any(side.has(sympy.nan, sympy.zoo) for side in (gold, answer)):
        return False
    if gold == answer:
        return True
    if not gold.free_symbols | answer.free_symbols:
        return _is_same_number(gold, answer, digits)
    num_seen = 0  # number of positive points at which both have a value
    for is_positive in (True, False):
        for point in _points(gold, answer, is_positive):
            one, other = _number(gold, point), _number(answer, point)
            if one is None or other is None or not (is_positive or (one.is_real and other.is_real)):
                continue
            if not _is_near(one, other):
                return False
            num_seen += is_positive
    return num_seen == len(REACHES) or bool(sympy.simplify(gold - answer) == 0)


def _is_same_number(gold: Any, answer: Any, digits: float) -> bool:
    if gold.is_infinite or answer.is_infinite:
        return False
    difference = gold - answer
    if difference == 0 or (difference.is_Rational and digits == inf):
        return bool(difference == 0)
    distance, size = _number(difference, {}), _number(gold, {})
    terms: list[Any] = [_number(term, {}) for term in sympy.Add.make_args(difference)]
    if distance is None or size is None or None in terms:
        return False
    distance, size = abs(distance), abs(size)
    # Relative to the largest term of the difference: 2**2005 + sqrt(2) does not equal 2**2005 + sqrt(3).
    if not difference.is_Rational and distance <= TINY * max(abs(term) for term in terms):
        return True
    if digits == inf or distance > size:
        return False
    # Half a unit of the last digit.
    unit = sympy.floor(sympy.log(size, 10)) - digits + 1
    return bool(2 * abs(difference) <= sympy.Integer(10) ** unit)


def _exact(expression: Any) -> Any:
    """Evaluate with fractions for decimals, the imaginary unit for i, and letters for unknown functions."""
    floats = {number: sympy.Rational(str(number)) for number in expression.atoms(sympy.Float)}
    unknown = expression.atoms(AppliedUndef, sympy.Derivative)
    letters = {function: sympy.Symbol(str(function), real=True) for function in unknown}
    value = expression.xreplace(letters).xreplace(floats).doit()
    return value.xreplace({sympy.Symbol("i", real=True): sympy.I}).doit()


def _points(one: Any, other: Any, is_positive: bool) -> Iterator[dict[Any, Any]]:
    letters = sorted(one.free_symbols | other.free_symbols, key=str)
    for number, reach in enumerate(REACHES):
        draw = random.Random(2 * number + is_positive)
        yield {
            letter: sympy.Rational(reach * draw.randrange(3 * 10**5, 3 * 10**6), 999_983)
            * (1 if is_positive else draw.choice((-1, 1)))
            for letter in letters
        }


def _number(expression: Any, point: dict[Any, Any]) -> Any | None:
    value = expression.evalf(EXACT_DIGITS + 10, subs=point)
    return value if value.is_number and value.is_finite else None


def _is_near(one: Any, other: Any) -> bool:
    return bool(abs(one - other) <= abs(one) * TINY)
