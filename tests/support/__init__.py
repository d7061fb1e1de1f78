"""What tests and load runs share: private services, and Warren's processes on top of them."""
