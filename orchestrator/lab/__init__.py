"""The lab: the simulator's deck behind the control socket, in time-lapse, so that a day can be watched in minutes."""
