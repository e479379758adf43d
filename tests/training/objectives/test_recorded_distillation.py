"""The distillation against a recorded loss of the same form: centred softmax targets, means over tokens."""

import torch

from hvtrain.objectives.losses import distillation_loss

from ..backbones.recordings import close, recording


def test_loss_and_gradient_are_the_recorded_ones(shared):
    config, _, r = recording(shared / "oracle" / "distill" / "token_cross_entropy.npz")
    temperatures = {"student_temperature": config["student_temp"], "teacher_temperature": config["teacher_temp"]}
    centres = (torch.zeros(48), r["center_after_1_update"][0, 0], r["center_after_2_updates"][0, 0])
    for k, centre in enumerate(centres):
        student = r["student"].clone().requires_grad_()
        loss = distillation_loss(student, r["teacher"], centre, **temperatures)
        close(loss, r[f"loss_center{k}_all"])
        if k == 0:
            loss.backward()
            close(student.grad, r["grad_student_center0"])
