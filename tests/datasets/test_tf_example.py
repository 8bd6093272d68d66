"""tf_example.py: reads the messages that protobuf writes, in all their variants."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from helpers.tfrecords import example, field, imagenet_example, varint
from imagenet.datasets.tf_example import Example, MalformedError


@pytest.fixture(scope='module')
def message_class():
    """Protobuf's own class for tf.train.Example."""
    file = descriptor_pb2.FileDescriptorProto(name='example.proto', package='tf', syntax='proto3')
    kinds = descriptor_pb2.FieldDescriptorProto

    def add(name, *fields):
        message = file.message_type.add(name=name)
        for number, (key, label, kind, type_name) in enumerate(fields, 1):
            message.field.add(name=key, number=number, label=label, type=kind, type_name=type_name)
        return message

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    lists = {'bytes': kinds.TYPE_BYTES, 'float': kinds.TYPE_FLOAT, 'int64': kinds.TYPE_INT64}
    for name, kind in lists.items():
        add(f'{name}_values', ('value', many, kind, None))
    feature = add('Feature', *((f'{name}_list', one, kinds.TYPE_MESSAGE, f'.tf.{name}_values') for name in lists))
    feature.oneof_decl.add(name='kind')
    for part in feature.field:
        part.oneof_index = 0
    features = add('Features', ('feature', many, kinds.TYPE_MESSAGE, '.tf.Features.FeatureEntry'))
    entry = features.nested_type.add(name='FeatureEntry')
    entry.options.map_entry = True
    entry.field.add(name='key', number=1, label=one, type=kinds.TYPE_STRING)
    entry.field.add(name='value', number=2, label=one, type=kinds.TYPE_MESSAGE, type_name='.tf.Feature')
    add('Example', ('features', one, kinds.TYPE_MESSAGE, '.tf.Features'))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('tf.Example'))


def test_reads_what_protobuf_writes(message_class):
    message = message_class()
    feature = message.features.feature
    feature['image/encoded'].bytes_list.value.append(b'\xff\xd8' + bytes(range(256)) * 3)
    feature['image/class/text'].bytes_list.value.extend(['Käse'.encode(), b'second'])
    feature['image/class/label'].int64_list.value.append(1000)
    feature['negative'].int64_list.value.extend([-3, 5])
    feature['floats'].float_list.value.extend([0.5, 1.5])
    feature['empty'].int64_list.SetInParent()
    payload = message.SerializeToString()
    for read in (Example(payload), Example(memoryview(payload))):
        begin, end = read.span('image/encoded')
        assert payload[begin:end] == b'\xff\xd8' + bytes(range(256)) * 3
        assert read.text('image/class/text') == 'Käse'
        assert read.integer('image/class/label') == 1000
        assert read.integer('negative') == -3
        assert read.integer('empty') is None
        assert read.integer('absent') is read.span('absent') is read.text('absent') is None


def test_protobuf_reads_what_the_tests_write(message_class, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8' * 300)
    message = message_class.FromString(imagenet_example(tmp_path / 'a.jpg', 7, b'n01440764'))
    feature = message.features.feature
    assert feature['image/encoded'].bytes_list.value == [b'\xff\xd8' * 300]
    assert feature['image/class/label'].int64_list.value == [7]
    assert feature['image/object/bbox/xmin'].float_list.value == [0.25, 0.5]


def test_integers_that_are_not_packed():
    values = b''.join(varint(1 << 3) + varint(value) for value in (300, 4))
    payload = field(1, field(1, field(1, b'label') + field(2, field(3, values))))
    assert Example(payload).integer('label') == 300


def test_unknown_fields_are_skipped():
    unknown = varint(9 << 3) + varint(5) + varint(10 << 3 | 1) + bytes(8) + varint(11 << 3 | 5) + bytes(4)
    payload = unknown + example({'encoded': b'image'}) + unknown
    begin, end = Example(payload).span('image/encoded')
    assert payload[begin:end] == b'image'


def test_feature_of_another_type():
    read = Example(example({'encoded': 3, 'class/label': b'cat', 'class/text': [1.5]}))
    for ask in (
        lambda: read.span('image/encoded'),
        lambda: read.integer('image/class/label'),
        lambda: read.text('image/class/text'),
    ):
        with pytest.raises(MalformedError, match='values of another type'):
            ask()


def test_cut_messages():
    payload = example({'encoded': b'image' * 50, 'class/label': 300})
    for length in range(1, len(payload)):
        with pytest.raises(MalformedError):
            Example(payload[:length])


@pytest.mark.parametrize(
    'payload',
    [
        b'\xff' * 20,  # an endless integer
        varint(1 << 3) + varint(5),  # a number in place of the features
        field(1, varint(1 << 3) + varint(5)),
        field(1, field(1, varint(1 << 3) + varint(5))),
        field(1, field(1, field(1, b'a') + varint(2 << 3) + varint(5))),
        varint(1 << 3 | 3),  # a group, which no Example has
        b'<!DOCTYPE html><html>404</html>',
    ],
)
def test_no_example(payload):
    with pytest.raises(MalformedError):
        Example(payload)
