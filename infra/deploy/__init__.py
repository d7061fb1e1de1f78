"""Deployment: the image, manifests, RabbitMQ definitions, alerts and the dashboard."""
