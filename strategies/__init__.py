"""What both ends agree on: settings, messages, topology, transport, distillation."""
