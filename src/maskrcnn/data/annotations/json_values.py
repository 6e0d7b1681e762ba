"""Values of JSON, read by kernels from text that is known to be JSON.

A reader that meets a spelling it does not know says so, and leaves the value to a parser. All release the GIL.
"""

from typing import no_type_check

import numpy as np

from maskrcnn.kernels import kernel

QUOTE, BACKSLASH, COMMA, BLANK, MINUS, POINT, ZERO, NINE = b'"\\, -.09'
LEFT_BRACE, RIGHT_BRACE, LEFT_BRACKET, RIGHT_BRACKET = b"{}[]"
LETTER_E, CAPITAL_E, LETTER_F, LETTER_N, LETTER_T = b"eEfnt"

_MOST_DIGITS = 18  # fit into int64
_TENS = 10.0 ** np.arange(_MOST_DIGITS + 1)  # all exact
_EXACT = 2**53  # up to here float64 holds every whole number
_SPLIT = 2.0**27 + 1  # halves a float64
_DOUBT = 2.0**-40  # far more than the relative error of a correction


@kernel()
@no_type_check
def skip_blanks(text, offset):
    while offset < len(text) and text[offset] <= BLANK:
        offset += 1
    return offset


@kernel()
@no_type_check
def skip_string(text, offset):
    """Behind the string that begins with the quotation mark at `offset`."""
    offset += 1
    while text[offset] != QUOTE:
        offset += 2 if text[offset] == BACKSLASH else 1
    return offset + 1


@kernel()
@no_type_check
def skip_value(text, offset):
    """Where a value ends: at what parts it from the next, or at the end of what it is in."""
    depth = 0
    while True:
        character = text[offset]
        if character == QUOTE:
            offset = skip_string(text, offset)
            continue
        if character in (LEFT_BRACKET, LEFT_BRACE):
            depth += 1
        elif character in (RIGHT_BRACKET, RIGHT_BRACE):
            if depth == 0:
                return offset
            depth -= 1
        elif character == COMMA and depth == 0:
            return offset
        offset += 1


@kernel()
@no_type_check
def _read_digits(text, offset, value):
    """(the number of which `value` are the digits so far, where it ends)."""
    while ZERO <= text[offset] <= NINE:
        value = 10 * value + (np.int64(text[offset]) - ZERO)
        offset += 1
    return value, offset


@kernel()
@no_type_check
def read_whole(text, offset):
    """(a whole number, where it ends, whether it was understood)."""
    is_negative = text[offset] == MINUS
    begin = offset + is_negative
    value, offset = _read_digits(text, begin, np.int64(0))
    understood = begin < offset <= begin + _MOST_DIGITS
    understood &= text[offset] not in (POINT, LETTER_E, CAPITAL_E)
    return -value if is_negative else value, offset, understood


@kernel()
@no_type_check
def read_flag(text, offset):
    if text[offset] == LETTER_T:
        return True, offset + len("true"), True
    if text[offset] == LETTER_F:
        return False, offset + len("false"), True
    value, offset, understood = read_whole(text, offset)
    return value != 0, offset, understood and 0 <= value <= 1


@kernel()
@no_type_check
def read_decimal(text, offset):
    """(the float64 nearest to a number, where it ends, whether it was understood)."""
    is_negative = text[offset] == MINUS
    begin = offset + is_negative
    digits, offset = _read_digits(text, begin, np.int64(0))
    num_digits, num_decimals = offset - begin, 0
    if text[offset] == POINT:
        begin = offset + 1
        digits, offset = _read_digits(text, begin, digits)
        num_decimals = offset - begin
    if not 0 < num_digits <= _MOST_DIGITS - num_decimals or text[offset] in (LETTER_E, CAPITAL_E):
        return 0.0, offset, False
    value, is_nearest = _divide(digits, _TENS[num_decimals])
    return -value if is_negative else value, offset, is_nearest


@kernel()
@no_type_check
def _divide(digits, tens):
    """(digits / tens, whether that is the float64 nearest to it).

    The quotient of the rounded digits is corrected by what it leaves over: the difference to the exact product
    (Dekker 1971) and the digits that rounding lost.
    """
    numerator = np.float64(digits)
    quotient = numerator / tens
    if digits <= _EXACT:
        return quotient, True
    product = quotient * tens
    high, other_high = _upper_half(quotient), _upper_half(tens)
    low, other_low = quotient - high, tens - other_high
    missing = low * other_low - (((product - high * other_high) - low * other_high) - high * other_low)
    rest = (numerator - product) - missing + np.float64(digits - np.int64(numerator))
    value = quotient + rest / tens * (1 - _DOUBT)
    return value, value == quotient + rest / tens * (1 + _DOUBT)


@kernel()
@no_type_check
def _upper_half(value):
    shifted = _SPLIT * value
    return shifted - (shifted - value)


@kernel()
@no_type_check
def read_wholes(text, offset, out):
    """(how many whole numbers, where their list ends, whether it was understood and fits into `out`)."""
    if text[offset] != LEFT_BRACKET:
        return 0, offset, False
    num = 0
    while text[offset] != RIGHT_BRACKET:
        value, offset, understood = read_whole(text, skip_blanks(text, offset + 1))
        if not understood or num == len(out):
            return num, offset, False
        out[num] = value
        num += 1
        offset = skip_blanks(text, offset)
    return num, offset + 1, True
