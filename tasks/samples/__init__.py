"""What a task is made of: images, video frames, and how a file is known to hold one."""
