"""Images with boxes: read from VOC, COCO and YOLO files, and moved with their pixels."""
