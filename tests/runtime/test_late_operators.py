"""late_operators.py: MXNet's functions, which are compiled when they are first called."""

import builtins

import pytest

from imagenet.runtime.compat import mx
from imagenet.runtime.late_operators import late_operators


def test_functions_are_the_same():
    images = mx.nd.array([-1, 2])
    assert mx.nd.Activation(images, act_type='relu').asnumpy().tolist() == [0, 2]
    assert mx.sym.Activation(mx.sym.var('images'), act_type='relu').list_arguments() == ['images']
    assert mx.np.add(mx.np.ones(2), 1).tolist() == [2, 2]
    assert 'late_operators' in mx.nd.Activation.__code__.co_filename
    assert mx.nd.Activation.__name__ == 'Activation'
    assert mx.nd.Activation.__doc__.startswith('Applies an activation function')
    with pytest.raises(mx.base.MXNetError, match='act_type'):
        mx.nd.Activation(images, act_type='none')


def test_only_generated_functions_are_late():
    names, one = {}, 1
    generator = {'__name__': 'mxnet.ndarray.register', 'names': names}
    with late_operators():
        exec('names["two"] = one + 1')
        exec('three = 3', names)
        exec("exec('def late(): return seven', None, names)", generator)
    assert (one, names['two'], names['three']) == (1, 2, 3)
    with pytest.raises(NameError, match='seven'):
        names['late']()
    generator['seven'] = 7
    assert names['late']() == 7
    assert exec is builtins.exec
