"""The ground floor: errors, atomic files, registries. Imports nothing of the project."""
