"""What a run needs before it starts: memory, compute, time, money, and how to lay it on the machines."""
