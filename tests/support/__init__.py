"""What tests of several folders share: clients, people, a proxy, waiting, sample commands, certificates."""
