"""What a deployment needs beside the processes: RabbitMQ's users and what each may do, as definitions to import."""
