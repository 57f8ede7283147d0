"""What `estimated_time` is made of."""

from router.coldstart import FORGOTTEN, GUESS, ColdStarts


def test_a_model_that_nobody_waited_for_takes_what_the_hub_says() -> None:
    cold = ColdStarts()
    cold.refused("up/m", 100.0)
    assert cold.estimate("up/m", 100.0) == GUESS
    assert cold.estimate("up/m", 105.0) == GUESS - 5.0
    assert cold.estimate("up/m", 1000.0) == 1.0, "it cannot be ready in the past"


def test_what_it_took_the_last_time_is_told_the_next_time() -> None:
    cold = ColdStarts()
    cold.refused("up/m", 0.0)
    cold.refused("up/m", 30.0)
    before = cold.loading
    cold.served("up/m", 60.0)
    assert (before, cold.loading) == (True, False)
    cold.refused("up/m", 500.0)
    assert cold.estimate("up/m", 510.0) == 50.0
    cold.served("up/m", 520.0)
    cold.refused("up/m", 900.0)
    assert cold.estimate("up/m", 900.0) == 40.0, "each counts half of what came before it"
    assert cold.estimate("up/other", 900.0) == GUESS


def test_what_a_server_says_itself_wins() -> None:
    cold = ColdStarts()
    cold.refused("up/m", 0.0)
    assert cold.estimate("up/m", 0.0, said=7.5) == 7.5


def test_a_load_that_was_never_finished_is_not_learned_from() -> None:
    cold = ColdStarts()
    cold.refused("up/m", 0.0)
    cold.served("up/m", FORGOTTEN + 1.0)
    cold.refused("up/m", FORGOTTEN + 2.0)
    assert cold.estimate("up/m", FORGOTTEN + 2.0) == GUESS


def test_ten_thousand_models_that_never_load_are_not_remembered_for_ever() -> None:
    cold = ColdStarts()
    for number in range(10_000):
        cold.refused(f"up/{number}", float(number) / 10_000)
        if number % 2:
            cold.served(f"up/{number}", 1.0)
    assert len(cold._began) <= 1024 and len(cold._took) <= 1024
