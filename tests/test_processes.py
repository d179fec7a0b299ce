from topolora_hf.processes import OneProcess, best_device, process_state


def test_a_process_alone_is_the_main_one_and_waits_for_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    state = process_state()
    assert isinstance(state, OneProcess) and state.is_main_process
    assert (state.process_index, state.num_processes) == (0, 1)
    with state.main_process_first():
        state.wait_for_everyone()


def test_the_best_device_is_the_accelerator_that_torch_sees(monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert best_device() == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert best_device().type == "mps"
