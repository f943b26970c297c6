"""The physics behind simulated frames: anatomy, devices, motion, beam, detector."""
