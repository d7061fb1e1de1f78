"""The fault suite: parts of Warren die under load, and four histories are held against each other afterwards."""
