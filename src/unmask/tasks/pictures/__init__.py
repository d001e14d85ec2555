"""Tasks of generated pictures: one file each, which exports one `PictureTask` as `TASK` under the file's name."""
