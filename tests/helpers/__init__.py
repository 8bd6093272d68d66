"""Helpers that tests import: commands, data sets, networks, waiting."""

import pytest

pytest.register_assert_rewrite('helpers.commands', 'helpers.patience', 'helpers.processes')
