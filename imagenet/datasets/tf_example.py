"""Reads tf.train.Example messages: features by name, each a list of byte strings, floats or integers.

The messages are those of TensorFlow's `example.proto` and `feature.proto`, in protobuf's wire format. An Example's
field 1 is Features; their field 1 is repeated and has a name (field 1) and a Feature (field 2); a Feature has one list:
of byte strings (field 1), floats (field 2) or int64 (field 3); the values of a list are its field 1.
"""

VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5
BYTES_LIST, INT64_LIST = 1, 3
MAX_VARINT_BYTES = 10
INT64_BITS = 64


class MalformedError(Exception):
    """Bytes that are not a tf.train.Example, or a feature of another type."""


class Example:
    """The features of one Example, which are read when they are asked for.

    Raises:
        MalformedError: the bytes are not an Example.
    """

    def __init__(self, message):
        """Find the features in a message, which is bytes or a memoryview of bytes."""
        self._message = message
        self._features = {}
        for features in _submessages(message, (0, len(message)), 1):
            for entry in _submessages(message, features, 1):
                parts = dict(_fields(message, entry))
                if not all(isinstance(parts.get(number, (0, 0)), tuple) for number in (1, 2)):
                    raise MalformedError('a feature is not one')
                begin, end = parts.get(1, (0, 0))
                self._features[bytes(message[begin:end])] = parts.get(2, (0, 0))

    def span(self, name):
        """Return (first byte, end) of a feature's first byte string, or None if there is none."""
        values = self._values(name, BYTES_LIST)
        if values and not isinstance(values[0], tuple):
            raise MalformedError(f'{name} is not a byte string')
        return values[0] if values else None

    def text(self, name):
        """Return a feature's first byte string as text, or None if there is none."""
        span = self.span(name)
        return None if span is None else bytes(self._message[slice(*span)]).decode('utf-8', 'surrogateescape')

    def integer(self, name):
        """Return a feature's first integer, or None if there is none."""
        for value in self._values(name, INT64_LIST):
            # Writers pack a list of integers into one byte string.
            if isinstance(value, tuple):
                begin, end = value
                if begin == end:
                    continue
                value, _ = _varint(self._message, begin, end)
            return value - (1 << INT64_BITS) if value >> (INT64_BITS - 1) else value
        return None

    def _values(self, name, kind):
        """Return the values of a feature's list.

        Raises:
            MalformedError: its list is of another kind.
        """
        feature = self._features.get(name.encode())
        if feature is None:
            return []
        lists = dict(_fields(self._message, feature))
        if set(lists) - {kind} or not isinstance(lists.get(kind, ()), tuple):
            raise MalformedError(f'{name} has values of another type')
        return [value for number, value in _fields(self._message, lists[kind]) if number == 1] if lists else []


def _submessages(message, span, wanted):
    """Return the spans of the messages in a field."""
    found = [value for number, value in _fields(message, span) if number == wanted]
    if not all(isinstance(value, tuple) for value in found):
        raise MalformedError('a message is not one')
    return found


def _fields(message, span):
    """Yield (number, value) of the fields in a span of a message.

    A value is an integer, the span of a byte string or a message, or None if it has 4 or 8 bytes.
    """
    at, end = span
    while at < end:
        key, at = _varint(message, at, end)
        number, wire_type = key >> 3, key & 7
        value = None
        if wire_type == VARINT:
            value, at = _varint(message, at, end)
        elif wire_type == LENGTH_DELIMITED:
            length, at = _varint(message, at, end)
            value = at, at + length
            at += length
        elif wire_type == FIXED_64:
            at += 8
        elif wire_type == FIXED_32:
            at += 4
        else:
            raise MalformedError(f'a field has wire type {wire_type}')
        if at > end:
            raise MalformedError('a field is cut short')
        yield number, value


def _varint(message, at, end):
    """Return an unsigned integer of up to 64 bits, and the byte after it."""
    value = 0
    for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
        if at >= end:
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << INT64_BITS) - 1), at
    raise MalformedError('an integer is cut short')
