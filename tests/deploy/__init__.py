"""What operators run: the image, Compose, Kubernetes, the balancer, secrets, workflows and releases."""
