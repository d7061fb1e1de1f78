"""How long fuzzing takes: short in `make test`, long in `make fuzz`."""

from hypothesis import HealthCheck, settings

#: Examples of a long run for each one of a short run.
LONG_FACTOR = 60


def fuzzing(examples: int, steps: int = 50) -> settings:
    """Settings for a test that tries so many examples in a short run; `steps` bounds a sequence of rules."""
    is_long = settings.get_current_profile_name() == "long"
    return settings(
        max_examples=examples * (LONG_FACTOR if is_long else 1),
        stateful_step_count=steps,
        # Examples talk to servers, whose speed is no subject here.
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
