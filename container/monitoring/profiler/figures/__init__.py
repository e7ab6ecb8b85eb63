"""What a recording comes to, in numbers: the job, its machines, its steps, its learning."""
