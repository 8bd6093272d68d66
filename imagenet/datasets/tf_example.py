"""Reads tf.train.Example messages: features by name, each a list of byte strings, floats or integers.

The messages are those of TensorFlow's `example.proto` and `feature.proto`, in protobuf's wire format. An Example's
field 1 is Features; their field 1 is repeated and has a name (field 1) and a Feature (field 2); a Feature has one list:
of byte strings (field 1), floats (field 2) or int64 (field 3); the values of a list are its field 1.
"""

VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5
BYTES_LIST, INT64_LIST = 1, 3
MAX_VARINT_BYTES = 10
MAX_UINT64, SIGN = (1 << 64) - 1, 1 << 63
# The span of a message without fields, which may be left out.
EMPTY = (0, 0)


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
                name, feature = parts.get(1, EMPTY), parts.get(2, EMPTY)
                if type(name) is not tuple or type(feature) is not tuple:
                    raise MalformedError('a feature is not one')
                self._features[bytes(message[name[0] : name[1]])] = feature

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
                if value[0] == value[1]:
                    continue
                value, _ = _varint(self._message, value[0])
            return value - 2 * (value & SIGN)
        return None

    def _values(self, name, kind):
        """Return the values of a feature's list.

        Raises:
            MalformedError: its list has another kind.
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
    if any(type(value) is not tuple for value in found):
        raise MalformedError('a message is not one')
    return found


def _fields(message, span):
    """Return a list of (number, value) of the fields in a span of a message.

    A value is an integer, the span of a byte string or a message, or None if it has 4 or 8 bytes.
    """
    at, end = span
    fields = []
    while at < end:
        key, at = _varint(message, at)
        value, wire_type = None, key & 7
        if wire_type == LENGTH_DELIMITED:
            length, begin = _varint(message, at)
            at = begin + length
            value = begin, at
        elif wire_type == VARINT:
            value, at = _varint(message, at)
        elif wire_type == FIXED_64:
            at += 8
        elif wire_type == FIXED_32:
            at += 4
        else:
            raise MalformedError(f'a field has wire type {wire_type}')
        fields.append((key >> 3, value))
    if at > end:
        raise MalformedError('a field is cut short')
    return fields


def _varint(message, at):
    """Return an unsigned integer of up to 64 bits, and the byte after it."""
    try:
        byte = message[at]
        # Most have one byte, and there are many.
        if byte < 0x80:
            return byte, at + 1
        value = byte & 0x7F
        for shift in range(7, 7 * MAX_VARINT_BYTES, 7):
            at += 1
            byte = message[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & MAX_UINT64, at + 1
    except IndexError:
        pass
    raise MalformedError('an integer is cut short or too long')
